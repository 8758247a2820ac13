"""Photos, masks and maps as arrays: reading, converting, cropping, writing; metadata. No torch but in `tensors`."""

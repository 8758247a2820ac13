"""What training needs beyond the networks and the loop: strategies for unlabelled photos, steps, validation."""

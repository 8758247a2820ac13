"""Where pictures come from: loaders for folders and data sets, and the procedural scenes."""

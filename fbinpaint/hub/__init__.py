"""Saved models: what is in their folders, where they come from, their cards, the Hugging Face Hub, Spaces."""

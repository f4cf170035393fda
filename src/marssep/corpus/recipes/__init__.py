"""Recipes: each makes a corpus folder from what lies on a disk or in package archives."""

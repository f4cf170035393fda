"""How well a separated sound answers the query: alignment of the modalities first."""

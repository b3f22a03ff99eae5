"""Model folders (safetensors and a description), and a reader of released pickles that runs none of them."""

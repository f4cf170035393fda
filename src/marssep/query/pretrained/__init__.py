"""Other people's encoders behind our protocol: transformers' CLAP, CLIP, SigLIP and PE-AV, and ImageBind."""

"""One base model, many LoRA adapters, one forward pass: the engine inside Triton's model `slm`."""

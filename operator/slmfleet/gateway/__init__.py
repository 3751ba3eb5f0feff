"""The data plane: an OpenAI-compatible gateway. It sends a call to its specialist or to the LLM and logs it sealed."""

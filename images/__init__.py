"""Images of the project and the environments that may be mounted instead of being packed into them."""

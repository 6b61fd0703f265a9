"""One request and its response, through middlewares to an attempt and back."""

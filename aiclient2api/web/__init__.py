"""The wire inwards: who may call, on which paths, and how answers and errors go back."""

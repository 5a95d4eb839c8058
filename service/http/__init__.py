"""HTTP: requests in, answers and errors out, and who may ask."""

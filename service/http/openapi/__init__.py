"""The interface as an OpenAPI 3.1 document, made from the types that requests are checked with."""

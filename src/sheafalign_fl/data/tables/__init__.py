"""Tables as people have them: one function from a file to columns, whatever wrote the file."""

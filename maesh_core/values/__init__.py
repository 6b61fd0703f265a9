"""Raw text and documents become checked values: durations, networks, header fields, names close to a misspelt one."""

"""Reports sent to the customers' own web servers."""

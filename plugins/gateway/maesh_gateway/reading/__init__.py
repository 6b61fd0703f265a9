"""From the fields of an object to a route with its rules; an error spoils only its part."""

"""What stores tables: one file for each destination, and what the SQL ones share."""

"""A pickle machine that can only build plain data."""

"""From raw k-space of any format to a measurement store: what ``mrigen prep-fastmri`` does."""

"""Every row of the tables of errors: the real error, provoked on the real server, through every driver."""

"""Small commands for developers; each file runs by itself with the standard library only."""

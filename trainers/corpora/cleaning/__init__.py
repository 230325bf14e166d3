"""What one document becomes, and whether it stays. Pure."""

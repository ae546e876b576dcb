"""What happens in the installation."""

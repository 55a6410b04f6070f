"""What an attacker would try; each of these succeeded before the door that it tries was closed."""

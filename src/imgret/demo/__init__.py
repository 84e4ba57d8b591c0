"""Drawn flowers: a sample gallery to try imgret without images of your own."""

"""Drawn flowers: a gallery to try imgret with, without any image of one's own."""

"""Policies: one question per module, answered from arguments alone, with the reason in the answer."""

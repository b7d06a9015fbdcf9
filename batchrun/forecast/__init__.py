"""What open rows will take, before any of them is sent: ranges of tokens and dollars, and what they rest on."""

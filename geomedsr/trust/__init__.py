"""What of a result can be believed: judged against its input, by its model, and by the truth where there is one."""

"""What a result may be trusted in: judged against its input, and against the truth where there is one."""

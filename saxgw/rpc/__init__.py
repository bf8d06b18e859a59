"""What a call is, whichever door it came through: status, deadline, endpoint and interceptors."""

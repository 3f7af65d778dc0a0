"""What is known of a customer at a moment: behaviour, transactions, engagement, profile; labels; segments."""

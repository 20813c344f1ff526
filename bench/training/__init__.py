"""What training buys: generators that are taught to draw masks."""

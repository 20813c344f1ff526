"""Training-free methods: from attention maps to class scores."""

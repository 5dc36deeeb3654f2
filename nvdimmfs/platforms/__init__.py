"""Where buses come from: platforms that announce persistent memory, and the machine that holds it all."""

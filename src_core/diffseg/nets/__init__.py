"""Networks: building blocks and the architectures made of them."""

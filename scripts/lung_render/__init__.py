"""CT-like slices rendered around real lung nodule outlines: anatomy, vessels, nodule, scanner."""

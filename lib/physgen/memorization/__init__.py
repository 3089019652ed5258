"""When does a diffusion model copy its data? Collapse, generalisation, images, geometry."""

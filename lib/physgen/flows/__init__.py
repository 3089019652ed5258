"""Can you learn a density exactly? Change variables to noise by maps whose Jacobian is known."""

"""Everything that touches OpenCV: reading cameras, measuring pictures, drawing, scaling."""

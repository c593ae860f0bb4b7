"""RetinaNet (Lin et al. 2017) of torchvision's parts, on any backbone of the project; where the published one differs,
they are subclassed. Boxes are x1, y1, x2, y2 in pixels, x2 and y2 just outside (width = x2 - x1).
"""

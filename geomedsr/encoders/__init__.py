"""What an image is compared by when voxels say too little: features of encoders, whose weights are local files."""

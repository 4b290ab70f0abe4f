"""SoundStream: the neural codec that makes acoustic tokens and turns them into sound."""

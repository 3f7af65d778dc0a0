"""Recommenders behind one interface: sparse histories in, ranked items out."""

"""The commands that plan a rotation, carry it out, set its goal, or report that one is due."""

# Comments as Doxygen wants them. The first one is about the file; lines of dashes begin a section;
# a comment behind code belongs to that, one on lines of its own to what follows.
1s|^/\* .*|/** @file|
s|^/\* -{8,} (.*) \*/|/* \1 */|
s|^( *)/\* |\1/** |
s|([^ /*].*[;,{]) +/\* |\1 /**< |
s|^(#define .*[^ ]) +/\* |\1 /**< |

"""Operations of people who run Roomlog: `faust -A app migrate | topics | ...`."""

"""The central controller: takes in what stores report, keeps fleet and stock, pushes releases to stores."""

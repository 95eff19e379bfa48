"""The long experiments: what is promised, tried thousands of times, beside a control that must fail."""

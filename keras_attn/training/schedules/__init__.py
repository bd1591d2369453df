"""Learning-rate schedules, one per file, each a `keras.optimizers.schedules.LearningRateSchedule`."""

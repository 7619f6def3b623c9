// Versions of the stages: raised when a stage's bytes change for the same settings.
#pragma once

namespace vi::pipeline {

inline constexpr int kTextVersion = 1, kDumpVersion = 1, kStatisticsVersion = 1, kGradientsVersion = 1, kCalibrateVersion = 2, kTransformVersion = 1, kBooksVersion = 2,
                     kCodebookVersion = 2, kTuneVersion = 1, kSensitivityVersion = 1, kEvaluateVersion = 4, kProfileVersion = 1, kReportVersion = 4;

}  // namespace vi::pipeline

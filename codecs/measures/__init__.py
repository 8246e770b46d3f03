# SPDX-License-Identifier: Apache-2.0
"""How far a decoded signal is from its original: each measure once, a file a kind.

    files (rate control) ──┐
    train (validation) ────┼──► measures ──► PSNR, MS-SSIM; PESQ, STOI, mel, ...
    eval (reports) ────────┘

Two figures of one name are of one definition, wherever they are printed. NumPy arrays
in, floats out; torchmetrics, pesq and others are imported when they are called.
"""

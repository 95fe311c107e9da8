"""The browser demo: upload a volume or pick a case, see the prediction, download it. Gradio lays the page out."""

"""The browser demo: upload a volume or pick a case, see the prediction, download it. The page is made with Gradio."""
